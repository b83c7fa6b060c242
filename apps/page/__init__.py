"""The page that people search with, at the search API's own address."""
