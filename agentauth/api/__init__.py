"""The same nouns as REST, one file per noun, OpenAPI 3.1 from the code. Same acts and same rights as the console."""
