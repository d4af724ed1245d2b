"""The HTML report and the live panel."""
