"""The two channels of the gate: one copies the Receiver's own states, the other sends states that hold nothing."""

from __future__ import annotations

from collections.abc import Sequence

from c2c.testbed.channel import Message, Prompt, ReceiverAnswer, SharerContext
from c2c.testbed.channels.states import answer_with_states, message_of, states_of
from c2c.testbed.controls import random_like
from c2c.testbed.models import Models

RANDOM_SEED = 0


class IdentityChannel:
    """The Receiver reads the unredacted text itself and sends its own states: the bound that copying reaches.

    `reads_own` makes the run give it the Receiver's own text (`c2c.testbed.layout.ItemLayout.own`) as its context.
    """

    reads_own = True

    def __init__(self, models: Models) -> None:
        self.models = models

    def send(self, contexts: Sequence[SharerContext]) -> list[Message]:
        """Keys without rotation and values of the Receiver at the places."""
        return [message_of(states) for states in self.models.receiver.states(contexts)]

    def receive(self, messages: Sequence[Message], prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
        """Answers with the message in the places."""
        return answer_with_states(self.models, [states_of(message) for message in messages], prompts)


class RandomStatesChannel(IdentityChannel):
    """States with the moments of the Receiver's own, drawn without the value: nothing can be learned from them."""

    def send(self, contexts: Sequence[SharerContext]) -> list[Message]:
        """States drawn from the mean and covariance of the real ones, by layer and head."""
        return random_like(super().send(contexts), RANDOM_SEED)
