"""What gateways tell each other of placements: collected by `outbox`, told in a `bulletin`, taken in by `others`."""
