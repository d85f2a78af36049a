"""The second telling of the product: folders mirror the rooms, and a test's name is the promise it keeps."""
