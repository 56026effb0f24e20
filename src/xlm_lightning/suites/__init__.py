"""Probes of a trained model beyond perplexity: `xlm-evaluate suite=crosslingual|bias`.

Each probe is also put to a model of the same shape with random weights: what that one reaches is
owed to the test and not to training.
"""
