"""`README.md` of a model: what it is, where it comes from, what it can do and what it costs."""
