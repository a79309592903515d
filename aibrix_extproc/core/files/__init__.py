"""Files and uploads of OpenAI's API: records, their JSON objects, and the rules for what a client may ask."""
