"""Files by content: blobs, results, lay-out and collection."""
