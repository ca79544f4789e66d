"""What an instance serves over HTTP: health, metrics, an API and the status page.

Only `kstream/app.py` imports this, in the supervisor's process, when the setting `web` is on; a worker never does.
guard.py checks who asks, api.py has the routes, feed.py the stream of events, server.py the thread. The page is
`static/`: plain ES modules without a build step, which ask this instance and nobody else.
"""
