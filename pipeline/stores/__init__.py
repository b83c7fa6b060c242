"""Where the vectors and the rows beside them are kept."""
