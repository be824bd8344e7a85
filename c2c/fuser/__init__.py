"""The Fuser of one Receiver layer, and the stack of all of them."""
