"""The proof that a user's own training resumes bit for bit."""
