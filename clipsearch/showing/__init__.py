"""What people see of hits: pages, pictures in the terminal, copies of the files, and how names are written."""
