"""What answers a question: one model, two, and routers between them."""
