"""Which Sharer layer and which Sharer token each Receiver layer and token reads."""
