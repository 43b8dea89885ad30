"""The product at work, for somebody who has a minute: `./dev demo`.

In: nothing but root and an installed checkout. Out: what happened, printed side by side, and exit status 0 only if
every single thing was as it should be.

    agent (uid 65534, in a job)  --  Coatcheck  --  https://service.test   (a real HTTPS service, in another namespace)
    another job of the same user                    https://other.test     (the same address; policy does not name it)

`setting` starts it all, `job` is a shell in a job, `clients/` what the agent runs there. `requests` and `attempts`
do things and write down what was seen (`seen`), `checks` judges that and does nothing else, `screen` prints it,
`remains` looks for what was left behind. So a test can alter what was seen and ask whether `checks` would notice.
"""
