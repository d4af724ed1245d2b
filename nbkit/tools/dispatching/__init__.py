"""The dispatcher: what continues where, within the budgets of each host, and why."""
