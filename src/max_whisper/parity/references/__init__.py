"""Programs for the Python that has the references; they import nothing of this package."""
