"""Pictures that serve one lesson each, named after its topic. What a product draws is in `handgrad.plots`."""
