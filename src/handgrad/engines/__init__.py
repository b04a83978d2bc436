"""What runs a model: `Training` makes steps and evaluations, `Decoding` writes token by token.

An engine is a module with these two classes, and a value: who trains or generates is handed one.
"""
