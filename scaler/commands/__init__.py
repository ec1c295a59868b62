"""The commands of `crowdgate-scaler`, each in a file of its own, loaded when it is called."""
