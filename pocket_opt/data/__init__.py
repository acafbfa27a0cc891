"""Audio and text: reading, resampling, data sets."""
