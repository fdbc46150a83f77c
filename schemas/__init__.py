"""What tracker, attribution and console agree on; imports nothing else of ours."""
