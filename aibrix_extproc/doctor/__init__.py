"""What can be wrong with an installation on Kubernetes, as pure checks over its objects."""
