"""Results as people see them: in the terminal, as web pages, as plots."""
