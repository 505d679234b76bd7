"""Lines to surprisal: bundle, tokenizer, model, rolling window."""
