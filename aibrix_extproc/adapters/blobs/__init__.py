"""The blob store: contents of files in a local folder, S3, Google Cloud Storage or Azure, through obstore."""
