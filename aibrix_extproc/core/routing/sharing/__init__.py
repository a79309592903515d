"""What gateways tell each other of placements: collected by `outbox`, in the form of `batch`, taken in by `others`."""
