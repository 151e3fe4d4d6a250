"""One network that holds every choice: elastic layers, progressive shrinking, recalibration, extraction."""
