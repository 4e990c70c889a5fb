"""checkpoint -> numbers: loss, distance to the source, exam, memorisation, speed. Import its modules."""
