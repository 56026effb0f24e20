"""Raw lines to token ids and back: Moses rules, BPE, vocabulary, and the pipeline of them."""
