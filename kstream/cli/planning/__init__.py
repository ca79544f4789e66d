"""What `kstream plan` is made of: `sample` reads records, `measure` runs the app over them on a broker of its own,
`arithmetic` makes a proposal of what was measured, `sums` says how, `limits` what Kafka bears; `answer` is all of it,
and `tables` shows it."""
