"""Scores of classes and errors, their intervals over people, and paired tests beside rivals."""
