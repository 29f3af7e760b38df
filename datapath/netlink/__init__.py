"""Raw rtnetlink: the one door to links, addresses, routes, rules and neighbours.

``wire`` knows headers and attributes, ``socket`` sends batches and reads answers, and one file per kind of
object turns typed values into requests and answers into typed values. ``monitor`` listens for links.

Several requests go out in one ``sendmsg``: the kernel works through them before the call returns, which is
what makes an ADD cost well under a millisecond (see ``perf.kernel_add``).
"""
