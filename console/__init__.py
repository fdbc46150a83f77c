"""Everything a person touches: web pages, commands, reports, SQL."""
