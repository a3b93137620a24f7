"""AWS on boto3: STS and console sign-in."""
