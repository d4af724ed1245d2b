"""What bounds a training: its options, the GPU's memory, and the time that validations may take."""
