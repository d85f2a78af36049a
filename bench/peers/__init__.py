"""The peers that we are measured against, each as its own makers would start it."""
