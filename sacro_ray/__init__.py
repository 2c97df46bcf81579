"""sacro_ray: distributed training and hyperparameter search for radiographic sacroiliitis on pelvic radiographs."""

__version__ = "0.1.0"
