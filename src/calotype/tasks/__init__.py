"""What can be done with a trained model: functions over a pipeline."""
