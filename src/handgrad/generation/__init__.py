"""Writing: from logits to a distribution, from a distribution to a token, token by token to a text."""
