"""Examples for users; a test runs each of them."""
