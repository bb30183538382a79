"""What families share: text encoders, autoencoders, loading, guidance, adapters. Knows no family."""
