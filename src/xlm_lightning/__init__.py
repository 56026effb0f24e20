"""Config-driven pretraining of XLM cross-lingual language models."""

__version__ = "0.1.0"
