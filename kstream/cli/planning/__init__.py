"""What `kstream plan` is made of: `sample` reads records, `measure` runs the app over them on a broker of its own,
`arithmetic` makes a proposal of what was measured, `limits` says what Kafka bears, `tables` shows all of it."""
