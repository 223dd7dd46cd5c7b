"""The linear-time core: arrays in, arrays out."""
