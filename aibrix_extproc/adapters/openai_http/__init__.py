"""An HTTP server that speaks OpenAI's API: rows of the operations table in, JSON and OpenAI's errors out."""
