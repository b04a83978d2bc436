"""The transformer, composed of ops by hand: configuration, first weights, block, whole, and what it costs."""
