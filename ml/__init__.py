"""The library: data, features, models, training, evaluation and inference.

It sets Keras up for itself, here, since this runs before any module of the library: what a user's Keras file says of
number types, epsilon, image format or backend decides nothing. ``KERAS_BACKEND`` alone chooses the backend.
"""

import os
import sys

# Nothing can be there: Keras, here and in processes that are started from here, neither reads nor writes a keras.json.
os.environ["KERAS_HOME"] = os.devnull

if _keras := sys.modules.get("keras"):  # was imported before, perhaps with such a file
    _keras.config.set_floatx("float32")
    _keras.config.set_epsilon(1e-7)
    _keras.config.set_image_data_format("channels_last")
    _keras.config.set_dtype_policy("float32")
