package socket

type loop struct{}

func (*loop) stop() {}
