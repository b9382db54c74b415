"""What is recorded of a trial: what it prints, what it uses, where its time goes."""
