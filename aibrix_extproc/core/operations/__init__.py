"""Operations on engines: desired state of adapters and models, and the steps towards it. Pure."""
