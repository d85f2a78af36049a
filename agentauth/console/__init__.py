"""Pages for people: a view file per noun. What the pages show is asked of the rooms below, nothing is decided here."""
