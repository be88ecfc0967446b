"""JSON Schemas and the AsyncAPI document, made from the registry in `contracts/messages.py`.

`python -m shared.schemas` writes them, `python -m shared.schemas --check` says which are out of step.
"""
